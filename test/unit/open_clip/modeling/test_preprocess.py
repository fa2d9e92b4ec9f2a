import open_clip
from tiny_models import tiny_clip


def test_settings_kept_on_a_model_are_found_again_under_old_names_too():
    model = tiny_clip()
    settings = {"size": 32, "mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)}
    open_clip.set_model_preprocess_cfg(model, settings)
    assert open_clip.get_model_preprocess_cfg(model) == settings
    assert model.visual.image_mean == (0.1, 0.2, 0.3)
    settings["size"] = 64
    assert open_clip.get_model_preprocess_cfg(model)["size"] == 32


def test_a_model_without_settings_answers_with_what_it_has():
    assert open_clip.get_model_preprocess_cfg(tiny_clip()) == {"size": (32, 32)}


def test_a_model_says_how_long_its_texts_are():
    expected = {"context_length": 16, "vocab_size": 600}
    assert open_clip.get_model_tokenize_cfg(tiny_clip()) == expected
    assert open_clip.get_model_tokenize_cfg(tiny_clip(custom_text=True)) == expected

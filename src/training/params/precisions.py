"""The table of precisions: what each ``--precision`` computes in, and what it goes with. The only one of the trainer.

Types stand by torch's names, since flags are read before torch is there; ``device.precision`` fits a row to a device.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PrecisionRow:
    """How one ``--precision`` computes.

    Attributes:
        name: What it is called.
        other_names: What else upstream or Ascend's recipes call it.
        model: The precision ``open_clip.create_model`` is given.
        autocast: The type of autocast; None without autocast.
        inputs: The type images are cast to before the model; None leaves them.
        is_scaled: Whether the loss goes through a gradient scaler.
        apex_level: apex's optimisation level; None without apex.
        to_evaluate: What a run that only evaluates takes, where that is another one: apex needs an optimizer.
        is_spread: Whether it goes with --fsdp, which gathers weights of one type together.
    """

    name: str
    other_names: tuple[str, ...] = ()
    model: str = "fp32"
    autocast: str | None = None
    inputs: str | None = None
    is_scaled: bool = False
    apex_level: str | None = None
    to_evaluate: str | None = None
    is_spread: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """All its names."""
        return (self.name, *self.other_names)

    @property
    def takes_loss_scale(self) -> bool:
        """Whether --loss-scale has an effect."""
        return self.is_scaled or self.apex_level is not None


_ROWS = (
    PrecisionRow("amp", autocast="float16", is_scaled=True, is_spread=True),
    PrecisionRow("amp_bf16", ("amp_bfloat16",), autocast="bfloat16", is_spread=True),
    PrecisionRow("bf16", model="bf16", inputs="bfloat16"),
    PrecisionRow("fp16", model="fp16", inputs="float16"),
    PrecisionRow("pure_bf16", model="pure_bf16", inputs="bfloat16", is_spread=True),
    PrecisionRow("pure_fp16", model="pure_fp16", inputs="float16"),
    PrecisionRow("fp32", is_spread=True),
    PrecisionRow("apex_o1", apex_level="O1", to_evaluate="amp"),
    # Evaluation calls the towers, not the forward that apex patches, so their input must come in fp16.
    PrecisionRow("apex_o2", ("npu_amp",), inputs="float16", apex_level="O2", to_evaluate="pure_fp16"),
)
#: Row by each of its names.
PRECISIONS: dict[str, PrecisionRow] = {name: row for row in _ROWS for name in row.names}

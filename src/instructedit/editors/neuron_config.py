"""How facts that share a model get neurons of their own."""

from dataclasses import dataclass

from instructedit.editors.drill import DescentConfig
from instructedit.errors import DataError


@dataclass(frozen=True)
class NeuronConfig(DescentConfig):
    """How facts that share a model are given neurons; `each` or `steps` of zero gives them none.

    A neuron's measure is 0 where the likeliest rows that it is to stay shut at lie and 1 where its subject
    ends. The unit of `rate` is the usual size of what an MLP gives.
    """

    each: int = 0  # that a fact gets, each in another stretch of blocks
    steps: int = 20
    fit: int = 2
    keep: int = 1
    weight: float = 0.3
    margin: float = 0.1
    whole: bool = True
    rate: float = 6.0
    replay: int = 4  # a step, texts that earlier edits of the same subjects answer
    depth: float = 0.17  # share of the blocks that lie before the first whose neurons are taken
    sites: int = 8  # blocks from there on
    share: float = 0.3  # of a block's neurons, those that ordinary text uses least, may be taken
    rounds: int = 2  # what has not taken gets more, up to so many times
    asked: int = 16  # earlier edits that are tried after each batch, and get more where they are lost
    ordinary: int = 4000  # rows of ordinary text, about, that they stay shut at
    opens: float = 0.3  # the measure at which they begin to open
    steep: float = 40.0  # their slope
    fade: float = 0.25  # how soon one that is open grows no louder; 0 is never

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.each >= 0 and self.ordinary >= 1 and self.opens < 1 and self.steep > 0):
            raise DataError(
                f"facts cannot get {self.each} neurons each that open at {self.opens} with a slope of "
                f"{self.steep}, told apart from {self.ordinary} rows of ordinary text. Expected neurons.each "
                "from 0 on, neurons.opens below 1, neurons.steep above 0, and neurons.ordinary from 1 on."
            )

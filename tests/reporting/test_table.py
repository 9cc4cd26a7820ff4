from mi_callback.estimation.records import Flag
from mi_callback.reporting import History, summary

from .records import DEEP, FAILED, estimate


def test_the_summary_is_a_table_of_first_and_last_epoch():
    history = History()
    for epoch, value in ((0, 1.0), (5, 1.5), (10, 2.0)):
        history.append(epoch=epoch, step=epoch, layer="net.1", quantity="target", estimate=estimate(value))
    history.append(epoch=10, step=10, layer="net.1", quantity="input", estimate=estimate(3, flags=(Flag.DUPLICATES,)))
    history.append(epoch=0, step=0, layer="output", quantity="input", estimate=estimate(4, p_value=None))
    history.append(epoch=10, step=10, layer="output", quantity="target", estimate=FAILED)
    history.set_ceiling("I(X;Y)", 2.5, 0.1)
    history.set_ceiling("log n", 8.5)
    assert summary(history).splitlines() == [
        "Mutual information in bits",
        "quantity  layer   epoch 0  epoch 10        interval  null band      p  flags",
        "target    net.1     1.000     2.000  1.800 to 2.300     ±0.100  0.010",
        "target    output        -         -               -          -      -",
        "input     net.1         -     3.000  2.800 to 3.300     ±0.100  0.010  duplicates",
        "input     output    4.000         -               -          -      -",
        "ceiling I(X;Y) = 2.500 +- 0.100",
        "ceiling log n = 8.500",
        f"duplicates: {Flag.DUPLICATES.value}",
    ]


def test_the_summary_of_nothing_says_so():
    assert summary(History()) == "No mutual information was measured."


def test_the_summary_names_layers_by_what_differs():
    """Evidence: the lines of text; on old code each line had the whole of a deep name."""
    history = History()
    for layer in DEEP:
        history.append(epoch=0, step=0, layer=layer, quantity="target", estimate=estimate())
    lines = summary(history).splitlines()
    assert [line.split()[1] for line in lines[2:5]] == ["0", "1", "output"]
    assert lines[5] == "layers: * in model.encoder.layer.*.intermediate.act"

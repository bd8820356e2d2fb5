"""The numbers that tell a format apart go through each framework unharmed where there is only one format."""

from importlib import import_module


def test_products_and_convolutions_of_the_cpu_are_float32(fw):
    device = (import_module("torch").device("cpu"),) if fw.name == "pytorch" else ()
    found = fw.precision.measured(*device)
    assert (found.products, found.convolutions, found.tf32) == ("float32", "float32", False)

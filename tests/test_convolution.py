"""Our convolutions against PyTorch's, to every order that training uses."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gandl_lib.nn import convolution, winograd


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 0), (2, 1)])
@pytest.mark.parametrize(("i", "o", "k"), [(1, 2, 1), (2, 1, 3), (2, 2, 3)])
def test_convolutions_and_both_their_derivatives_are_right(i, o, k, stride, padding):
    torch.manual_seed(0)
    x = torch.randn(2, i, 4, 5, dtype=torch.float64, requires_grad=True)
    down = torch.randn(o, i, k, k, dtype=torch.float64, requires_grad=True)
    b = torch.randn(o, dtype=torch.float64, requires_grad=True)
    up = torch.randn(i, o, k, k, dtype=torch.float64, requires_grad=True)
    args = {"stride": stride, "padding": padding}
    torch.testing.assert_close(convolution.conv2d(x, down, b, **args), F.conv2d(x, down, b, **args))
    torch.testing.assert_close(convolution.conv_transpose2d(x, up, **args), F.conv_transpose2d(x, up, **args))
    for f, inputs in (
        (lambda *t: convolution.conv2d(*t, **args), (x, down, b)),
        (lambda *t: convolution.conv_transpose2d(*t, **args), (x, up)),
    ):
        torch.autograd.gradcheck(f, inputs)
        torch.autograd.gradgradcheck(f, inputs)


def test_a_penalty_on_the_images_gradient_still_teaches_the_weights():
    """Within `only_images` weights get nothing, and what is differentiated later gets all of it."""
    torch.manual_seed(0)
    x, w, b = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3), torch.randn(4)
    found = []
    for f in (F.conv2d, convolution.conv2d):
        inputs = [t.clone().requires_grad_() for t in (x, w, b)]
        y = f(*inputs, padding=1).tanh().sum()
        with convolution.only_images():
            assert (
                f is F.conv2d or torch.autograd.grad(y, inputs[1:], retain_graph=True, allow_unused=True) == (None,) * 2
            )
            (g,) = torch.autograd.grad(y, inputs[0], create_graph=True)
        g.square().sum().backward()
        found.append([t.grad for t in inputs])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@given(
    st.integers(1, 5), st.sampled_from([4, 12, 16]), st.sampled_from([8, 64, 68]), st.integers(1, 9), st.integers(1, 9)
)
@settings(max_examples=25, deadline=None)
def test_winograd_is_the_convolution(n, height, width, i, o):
    torch.manual_seed(0)
    x, w, g = torch.randn(n, i, height, width), torch.randn(o, i, 3, 3), torch.randn(n, o, height, width)
    exact = F.conv2d(x.double(), w.double(), padding=1)
    error = (winograd.conv2d(x, w) - exact).std() / exact.std()
    assert error < 1e-5
    exact = torch.nn.grad.conv2d_weight(x.double(), w.shape, g.double(), padding=1)
    error = (winograd.conv2d_weight(x, g) - exact).std() / exact.std()
    assert error < 2e-5


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
def test_wide_layers_take_the_fast_road_with_the_same_derivatives(memory):
    torch.manual_seed(0)
    x = torch.randn(4, winograd.FEATURES, 16, 16).to(memory_format=memory)
    w = torch.randn(winograd.FEATURES + 5, winograd.FEATURES, 3, 3) / 30
    assert winograd.pays(x, w.shape, 1, 1)
    assert not winograd.pays(x.double(), w.shape, 1, 1) and not winograd.pays(x, w.shape, 2, 1)
    found = []
    for f in (F.conv2d, convolution.conv2d):
        inputs = [t.clone().requires_grad_() for t in (x, w)]
        y = f(*inputs, padding=1).mul_(1.5)  # whoever comes next may work in place
        (g,) = torch.autograd.grad(y.tanh().sum(), inputs[0], create_graph=True)
        (g.square().sum() + y.sum()).backward()
        found.append([y.detach(), g.detach(), *(t.grad for t in inputs)])
    for theirs, ours in zip(*found, strict=True):
        assert (ours - theirs).std() < 1e-4 * theirs.std()


def test_autocast_reaches_inside():
    x, w = torch.randn(2, 3, 8, 8, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = convolution.conv2d(x, w, padding=1)
        assert y.dtype == torch.bfloat16
        (g,) = torch.autograd.grad(y.float().square().sum(), x, create_graph=True)
        g.float().square().sum().backward()
    assert x.grad.dtype == w.grad.dtype == torch.float32


def test_fp16_alone_is_left_where_its_range_may_not_do():
    x, w = torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3, 3)

    def precision(wanted: bool = True) -> torch.dtype:
        with convolution.without_fp16(x, wanted):
            return convolution.conv2d(x, w).dtype

    assert precision() == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert precision() == torch.bfloat16
    with torch.autocast("cpu", torch.float16):
        assert (precision(), precision(wanted=False)) == (torch.float32, torch.float16)
        assert convolution.conv2d(x, w).dtype == torch.float16  # again, afterwards

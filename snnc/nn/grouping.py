"""Token groups of a map: dilated ones that reach across it and windows, as views and transpositions."""

from __future__ import annotations

from torch import Tensor

from snnc.errors import UsageError

__all__ = ["dilated_groups", "from_dilated_groups", "from_window_groups", "window_groups"]


def _sides(height: int, width: int, chunks: int) -> tuple[int, int]:
    """Return height and width of a group."""
    if chunks < 1 or height % chunks or width % chunks:
        raise UsageError(
            "SNN216",
            f"a map of {height}x{width} tokens cannot be cut into {chunks}x{chunks} equal groups",
            hint="give an input size whose maps divide, or other numbers of chunks (argument 'chunks')",
        )
    return height // chunks, width // chunks


def dilated_groups(x: Tensor, chunks: int) -> Tensor:
    """Cut a map into groups that each span all of it: group (i, j) is ``x[:, :, i::m, j::m]``.

    Args:
        x: ``(N, C, H, W)``; H and W are multiples of ``chunks``.
        chunks: m, the stride between neighbours of a group.

    Returns:
        ``(N, m * m, C, H * W / m^2)``: group ``i * m + j``, token ``p * (W / m) + q`` is pixel
        ``(p * m + i, q * m + j)``.

    Raises:
        UsageError: SNN216 if the map does not divide.

    Source:
        Ge2mS-T (arXiv 2604.08894), dilated-global grouping; semantics note 3.1.
    """
    _, channels, height, width = x.shape
    rows, columns = _sides(height, width, chunks)
    cut = x.reshape(-1, channels, rows, chunks, columns, chunks).permute(0, 3, 5, 1, 2, 4)
    return cut.reshape(-1, chunks * chunks, channels, rows * columns)


def from_dilated_groups(groups: Tensor, chunks: int, height: int, width: int) -> Tensor:
    """Put groups of `dilated_groups` back in place.

    Args:
        groups: ``(N, m * m, C, H * W / m^2)``.
        chunks: m.
        height: H.
        width: W.

    Returns:
        ``(N, C, H, W)``.
    """
    rows, columns = _sides(height, width, chunks)
    channels = groups.shape[2]
    cut = groups.reshape(-1, chunks, chunks, channels, rows, columns).permute(0, 3, 4, 1, 5, 2)
    return cut.reshape(-1, channels, height, width)


def window_groups(x: Tensor, chunks: int) -> Tensor:
    """Cut a map into m x m windows.

    Args:
        x: ``(N, C, H, W)``; H and W are multiples of ``chunks``.
        chunks: m, the number of windows along each side.

    Returns:
        ``(N, m * m, C, H * W / m^2)``: group ``i * m + j``, token ``p * (W / m) + q`` is pixel
        ``(i * H / m + p, j * W / m + q)``.

    Raises:
        UsageError: SNN216 if the map does not divide.

    Source:
        Ge2mS-T (arXiv 2604.08894), window grouping; semantics note 3.1.
    """
    _, channels, height, width = x.shape
    rows, columns = _sides(height, width, chunks)
    cut = x.reshape(-1, channels, chunks, rows, chunks, columns).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(-1, chunks * chunks, channels, rows * columns)


def from_window_groups(groups: Tensor, chunks: int, height: int, width: int) -> Tensor:
    """Put groups of `window_groups` back in place.

    Args:
        groups: ``(N, m * m, C, H * W / m^2)``.
        chunks: m.
        height: H.
        width: W.

    Returns:
        ``(N, C, H, W)``.
    """
    rows, columns = _sides(height, width, chunks)
    channels = groups.shape[2]
    cut = groups.reshape(-1, chunks, chunks, channels, rows, columns).permute(0, 3, 1, 4, 2, 5)
    return cut.reshape(-1, channels, height, width)

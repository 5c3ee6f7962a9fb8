"""Keys and values of earlier tokens: whole parts, and the part that decoding fills."""

from typing import Any, NamedTuple

import jax

KeyValue = tuple[jax.Array, jax.Array]


class KVCache(NamedTuple):
    """Keys, already rotated, and values of S tokens of B rows: `[L, B, M, S, H]` each."""

    key_lbmsh: jax.Array
    value_lbmsh: jax.Array


class GrowingPart(NamedTuple):
    """What one layer reads of the part of a cache that decoding fills: few more slots than are filled.

    key, value: `[L, B, M, S, H]`, of all layers; or `[B, M, S, H]`, of this one.
    filled: `[]` int32, number of slots that hold tokens.
    widths: numbers of slots that may be read, in ascending order; the last is S.
    layer: `[]` int32, index of the layer; None if keys and values are those of one.
    """

    key: jax.Array
    value: jax.Array
    filled: jax.Array
    widths: tuple[int, ...]
    layer: jax.Array | None = None

    def read(self, width: int) -> KeyValue:
        """Return keys and values of the first `width` slots, `[B, M, width, H]` each."""
        if self.layer is None:
            return self.key[:, :, :width], self.value[:, :, :width]
        size, start = (1, *self.key.shape[1:3], width, self.key.shape[4]), (self.layer, 0, 0, 0, 0)
        key_1bmsh, value_1bmsh = (jax.lax.dynamic_slice(x, start, size) for x in (self.key, self.value))
        return key_1bmsh[0], value_1bmsh[0]


class GrowingCache(NamedTuple):
    """The last part of a cache, and how far it is filled, so that attention costs no more than that.

    cache: of all layers; or keys and values `[B, M, S, H]` of each, where layers are unrolled.
    filled, widths: as in `GrowingPart`; each width is compiled.
    """

    cache: KVCache | tuple[KeyValue, ...]
    filled: jax.Array
    widths: tuple[int, ...]

    def of_layer(self, layer: Any) -> GrowingPart:
        """Return what a layer reads; its index is an int where layers are unrolled."""
        if isinstance(self.cache, KVCache):
            return GrowingPart(*self.cache, self.filled, self.widths, layer)
        key_bmsh, value_bmsh = self.cache[layer]
        return GrowingPart(key_bmsh, value_bmsh, self.filled, self.widths)


def cache_slots(cache: tuple[KVCache, ...]) -> int:
    """Return S, summed over all parts of a cache."""
    return sum(part.key_lbmsh.shape[3] for part in cache)


def split_by_layer(cache: KVCache) -> tuple[KeyValue, ...]:
    """Return keys and values of each layer."""
    return tuple(zip(*cache, strict=True))


def join_layers(layers: tuple[KeyValue, ...]) -> KVCache:
    """Return the cache that `split_by_layer` has split."""
    return KVCache(*(jax.numpy.stack(x) for x in zip(*layers, strict=True)))

"""Which device holds what: one mesh, one table of rules, and the shardings of any tree that holds parameters.

Three mesh axes. Rows of a batch are cut over `data` and `fsdp`; parameters over `fsdp` (their width) and `tensor`
(heads, mlp, vocabulary), so each is held whole only along `data`. XLA derives the communication from these.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

MESH_AXES = ("data", "fsdp", "tensor")
ROWS = P(("data", "fsdp"))

# Logical axis of a parameter (`decoder.param_axes`) -> mesh axis. Where `tensor` does not divide the kv heads (2 in
# Qwen2.5-3B), each of its devices holds all of them, and computes their keys and values for its own query heads.
RULES = {
    "layers": None,
    "vocab": "tensor",
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "head_size": None,
    "mlp": "tensor",
    "rank": None,
    "qkv": None,
    "patch": None,
}


def make_mesh(shape: dict[str, int], *, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over all devices (or those given): {"fsdp": 4, "tensor": 2}; axes that are left out are 1, -1 is the rest.

    Raises:
      ValueError: an axis is unknown, or the shape does not use exactly the devices there are.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = [shape.get(axis, 1) for axis in MESH_AXES]
    rest = len(devices) // abs(math.prod(sizes) or 1)
    sizes = tuple(rest if size == -1 else size for size in sizes)
    if set(shape) - set(MESH_AXES) or min(sizes) < 1 or math.prod(sizes) != len(devices):
        raise ValueError(
            f"mesh {shape} does not fit {len(devices)} devices: the sizes of {', '.join(MESH_AXES)} (1 where left out, "
            "at most one -1 for the rest) must multiply to their number"
        )
    # Not jax.make_mesh: on a TPU pod it refuses every axis that is no product of the pod's own axes, as 64 of 4x4x8.
    laid_out = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    return Mesh(laid_out, MESH_AXES, axis_types=(AxisType.Auto,) * len(sizes))


def partition_spec(
    shape: tuple[int, ...], axes: tuple[str, ...], mesh: Mesh, rules: dict[str, str | None] = RULES
) -> P:
    """How one parameter is cut; a dimension that its mesh axis does not divide (few kv heads) is kept whole."""

    def cut(size, axis):
        mesh_axis = rules[axis]
        return mesh_axis if mesh_axis is not None and size % mesh.shape[mesh_axis] == 0 else None

    return P(*(cut(size, axis) for size, axis in zip(shape, axes, strict=True)))


def shardings(tree: Any, axes: dict[str, Any], mesh: Mesh, *, rules: dict[str, str | None] = RULES) -> Any:
    """The sharding of every leaf of a tree that holds parameters, or copies of them as optimizers do.

    A leaf is cut as parameter a/b/c when the dict keys on its path end in a, b, c and its rank agrees: so the moments
    of Adam, which are trees like the parameters, are cut like them; everything else is replicated.

    Args:
      tree: arrays or `jax.ShapeDtypeStruct`: parameters, an optimizer's state, a whole train state.
      axes: logical axes of each parameter, `decoder.param_axes(config)`.
      rules: logical axis → mesh axis, or None for whole.
    """
    known = traverse_util.flatten_dict(axes)

    def place(path, leaf):
        keys = _keys(path)
        names = next((known[keys[i:]] for i in range(len(keys)) if keys[i:] in known), ())
        cut = partition_spec(leaf.shape, names, mesh, rules) if len(names) == len(leaf.shape) else P()
        return NamedSharding(mesh, cut)

    return jax.tree_util.tree_map_with_path(place, tree)


def with_shardings(tree: Any, shardings: Any) -> Any:
    """`jax.ShapeDtypeStruct` of every leaf, with where it will be; one sharding for all, or a tree of them."""
    if isinstance(shardings, jax.sharding.Sharding):
        shardings = jax.tree.map(lambda _: shardings, tree)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)


def _keys(path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Leading axis over ("data", "fsdp"): for batches."""
    return NamedSharding(mesh, ROWS)


def count_batch_shards(mesh: Mesh | jax.sharding.AbstractMesh) -> int:
    """Into how many parts a mesh cuts rows."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def pad_to_multiple(rows: int, mesh: Mesh) -> int:
    """So many rows, and as few more as make all parts equal."""
    return -(-rows // count_batch_shards(mesh)) * count_batch_shards(mesh)


def local_row_indices(mesh: Mesh, rows: int) -> list[int]:
    """Which of so many rows the devices of this process hold; where `tensor` spans several they hold the same ones."""
    here = batch_sharding(mesh).addressable_devices_indices_map((rows,)).values()
    return sorted({row for (part,) in here for row in range(rows)[part]})


def to_mesh(tree: Any, mesh: Mesh) -> Any:
    """Put host arrays with this process's rows (`local_row_indices`) on the mesh, as arrays of all rows."""
    rows = batch_sharding(mesh)
    if rows.is_fully_addressable:
        return jax.device_put(tree, rows)
    parts = count_batch_shards(mesh)
    here = local_row_indices(mesh, parts)

    def place_leaf(x):
        size = len(x) // len(here)

        def read(index):
            first = here.index(range(size * parts)[index[0]].start // size) * size
            return x[first : first + size]

        return jax.make_array_from_callback((size * parts, *x.shape[1:]), rows, read)

    return jax.tree.map(place_leaf, tree)


def local_rows(tree: Any, mesh: Mesh) -> Any:
    """Of host arrays that have all rows those that `to_mesh` takes."""
    if batch_sharding(mesh).is_fully_addressable:
        return tree
    return jax.tree.map(lambda x: x[local_row_indices(mesh, len(x))], tree)


def replicate(tree: Any) -> Any:
    """Arrays, each whole where every process can read it; not waited for. With one process they are so already."""
    return jax.tree.map(lambda x: x if _is_readable(x) else _replicate(x.sharding.mesh)(x), tree)


def to_host(tree: Any) -> Any:
    """Arrays as host arrays, whole, on every process; all processes must ask for the same."""
    return jax.device_get(replicate(tree))


def _is_readable(x: Any) -> bool:
    return not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated


@functools.cache
def _replicate(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda x: x, out_shardings=replicated_sharding(mesh))


def constrain_batch(x_b: jax.Array) -> jax.Array:
    """Tell XLA to cut activations by rows. Without this it cuts their width as the parameters', and FSDP is lost.

    Acts under `jax.set_mesh(mesh)`, on rows that the mesh divides; elsewhere it is the identity.
    """
    return jax.lax.with_sharding_constraint(x_b, ROWS) if batch_shards(x_b.shape[0]) else x_b


def batch_shards(rows: int) -> int:
    """Into how many parts the mesh of `jax.set_mesh` cuts so many rows; 0 where it does not, or there is none."""
    mesh = jax.sharding.get_abstract_mesh()
    return 0 if mesh.empty or rows % count_batch_shards(mesh) else count_batch_shards(mesh)


def embed_lookup(table_vd: jax.Array, token_bt: jax.Array, dtype: str) -> jax.Array:
    """`table_vd[token_bt]` in this dtype, such that the table stays where it is, and so does its gradient.

    Each device looks up its part of the width (and of the vocabulary: the rest is 0, and summed over `tensor`) for all
    rows that `fsdp` shares out, and rows are then exchanged for width. Left to itself XLA puts the table together, or
    all rows; but decoding is left to itself: one token a row is little beside a table.
    """
    rows, length = token_bt.shape
    is_cut = length > 1 and batch_shards(rows) > 0
    if is_cut:
        token_bt = jax.lax.with_sharding_constraint(token_bt, P("data"))
    # Behind the lookup: the gradients of a token that is there a thousand times are added up in the table's dtype.
    x_btd = table_vd[token_bt].astype(dtype)
    if is_cut:
        width = partition_spec(table_vd.shape[1:], ("embed",), jax.sharding.get_abstract_mesh())
        x_btd = jax.lax.with_sharding_constraint(x_btd, P("data", None, *width))
    return constrain_batch(x_btd)


def copy_per_batch_shard(matrix: jax.Array, axes: tuple[str, ...], rows: int) -> jax.Array:
    """A copy of a parameter for each part of the rows, `[parts, …]`: whole along `fsdp`, cut along `tensor` as ever.

    What is computed with the copies is local to each part's devices. So in a loop over chunks nothing is gathered, and
    gradients are added up where they are; the sum over the devices is taken once, that of the copies.
    """
    parts = batch_shards(rows)
    if not parts:
        return matrix[None]
    mesh = jax.sharding.get_abstract_mesh()
    copies = jnp.broadcast_to(matrix[None], (parts, *matrix.shape))
    cut = partition_spec(matrix.shape, axes, mesh, RULES | {"embed": None})
    return jax.lax.with_sharding_constraint(copies, P(*ROWS, *cut))


def replicated_sharding(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, P())


def kv_cache_spec(kv_heads: int, mesh: Mesh | jax.sharding.AbstractMesh) -> P:
    """How keys and values `[L, B, S, M, H]` are cut: rows like all rows, heads like the projections they come from."""
    return P(None, *ROWS, None, *partition_spec((kv_heads,), ("kv_heads",), mesh))


def constrain_kv_cache(kv_lbsmh: jax.Array) -> jax.Array:
    """Tell XLA so, under the same conditions as `constrain_batch`."""
    _, rows, _, kv_heads, _ = kv_lbsmh.shape
    if not batch_shards(rows):
        return kv_lbsmh
    return jax.lax.with_sharding_constraint(kv_lbsmh, kv_cache_spec(kv_heads, jax.sharding.get_abstract_mesh()))

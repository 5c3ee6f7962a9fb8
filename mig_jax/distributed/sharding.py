"""Shardings: one mesh, one table of rules, and the placement of parameters, optimizer state, batches and caches.

The mesh has three axes. Batch rows are split over `data` and `fsdp`; parameters over `fsdp` (their width) and `tensor`
(heads, mlp, experts, vocabulary), so they are replicated along `data` only. XLA derives the communication from these
shardings.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mig_jax.errors import UserError

MESH_AXES = ("data", "fsdp", "tensor")
# Spec of arrays whose leading axis is batch rows.
BATCH_SPEC = P(("data", "fsdp"))

# Logical axis of a parameter (`decoder.param_axes`) -> mesh axis. Where `tensor` does not divide the kv heads (2 in
# Qwen2.5-3B), each of its devices holds all of them, and computes their keys and values for its own query heads.
RULES: dict[str, str | None] = {
    "layers": None,
    "vocab": "tensor",
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "head_size": None,
    "mlp": "tensor",
    "experts": "tensor",
    "expert_mlp": None,
    "router": None,
    "rank": None,
    "qkv": None,
    "patch": None,
}


def make_mesh(
    shape: dict[str, int],
    *,
    devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]  # a class without type stubs
) -> Mesh:
    """Return a mesh over all devices, or over those given.

    Args:
      shape: sizes of mesh axes, such as {"fsdp": 4, "tensor": 2}. Missing axes are 1; -1 takes the remaining devices.
      devices: devices to use; None for all.

    Raises:
      UserError: an axis is unknown, or the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = [shape.get(axis, 1) for axis in MESH_AXES]
    rest = len(devices) // abs(math.prod(sizes) or 1)
    sizes = tuple(rest if size == -1 else size for size in sizes)
    if set(shape) - set(MESH_AXES) or min(sizes) < 1 or math.prod(sizes) != len(devices):
        raise UserError(
            f"mesh {shape} does not fit {len(devices)} devices: the sizes of {', '.join(MESH_AXES)} (1 if missing, at "
            "most one -1 for the rest) must multiply to that number"
        )
    # jax.make_mesh refuses, on a TPU pod, an axis that is not a product of the pod's own axes, such as 64 of 4x4x8.
    device_grid = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    return Mesh(device_grid, MESH_AXES, axis_types=(AxisType.Auto,) * len(sizes))


# ---------------------------------------------------------------------------------------------------------- parameters


def partition_spec(
    shape: tuple[int, ...], axes: tuple[str, ...], mesh: Mesh | AbstractMesh, rules: dict[str, str | None] = RULES
) -> P:
    """Return the spec of one parameter. A dimension that its mesh axis does not divide (few kv heads) is replicated.

    Args:
      shape: of the parameter.
      axes: logical axis of each dimension.
      mesh: mesh to split over.
      rules: logical axis → mesh axis, or None to replicate.
    """

    def mesh_axis_of(size: int, axis: str) -> str | None:
        mesh_axis = rules[axis]
        return mesh_axis if mesh_axis is not None and size % mesh.shape[mesh_axis] == 0 else None

    return P(*(mesh_axis_of(size, axis) for size, axis in zip(shape, axes, strict=True)))


def shardings(tree: Any, axes: dict[str, Any], mesh: Mesh, *, rules: dict[str, str | None] = RULES) -> Any:
    """Return the sharding of every leaf of a tree that contains parameters or copies of them, as optimizers do.

    A leaf is sharded as parameter a/b/c if the dict keys on its path end in a, b, c and the ranks are equal. So Adam's
    moments, which are trees like the parameters, are sharded like them. All other leaves are replicated.

    Args:
      tree: arrays or `jax.ShapeDtypeStruct`: parameters, an optimizer's state, a whole train state.
      axes: logical axes of each parameter, `decoder.param_axes(config)`.
      mesh: mesh to split over.
      rules: logical axis → mesh axis, or None to replicate.
    """
    axes_of_param: dict[Any, Any] = traverse_util.flatten_dict(axes)

    def sharding_of(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        keys = _dict_keys(path)
        names = next((axes_of_param[keys[i:]] for i in range(len(keys)) if keys[i:] in axes_of_param), ())
        spec = partition_spec(leaf.shape, names, mesh, rules) if len(names) == len(leaf.shape) else P()
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(sharding_of, tree)


def _dict_keys(path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey))


def with_shardings(tree: Any, shardings: Any) -> Any:
    """Return a `jax.ShapeDtypeStruct` with a sharding for every leaf.

    Args:
      tree: arrays or shapes.
      shardings: one sharding for all leaves, or a tree of them.
    """
    if isinstance(shardings, jax.sharding.Sharding):
        shardings = jax.tree.map(lambda _: shardings, tree)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)


def replicated_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of arrays that every device holds completely."""
    return NamedSharding(mesh, P())


def embed_lookup(table_vd: jax.Array, token_bt: jax.Array, dtype: str) -> jax.Array:
    """Return `table_vd[token_bt]` in `dtype`, without gathering the table or its gradient.

    Each device looks up its part of the width (and of the vocabulary; other tokens give 0, summed over `tensor`) for
    all rows of its `fsdp` group. Rows are then exchanged for width. Left alone, XLA gathers the table or all rows.
    Decoding is left alone: one token per row is small beside a table.
    """
    rows, length = token_bt.shape
    is_sharded = length > 1 and splits_evenly(rows)
    if is_sharded:
        token_bt = jax.lax.with_sharding_constraint(token_bt, P("data"))
    # Cast after the lookup, so that gradients of a token that occurs a thousand times are summed in the table's dtype.
    x_btd = table_vd[token_bt].astype(dtype)
    if is_sharded:
        width = partition_spec(table_vd.shape[1:], ("embed",), jax.sharding.get_abstract_mesh())
        x_btd = jax.lax.with_sharding_constraint(x_btd, P("data", None, *width))
    return constrain_batch(x_btd)


def copy_per_batch_shard(matrix: jax.Array, axes: tuple[str, ...], rows: int) -> jax.Array:
    """Return a copy of a parameter for each batch shard, `[shards, …]`: replicated over `fsdp`, split over `tensor`.

    Computations with a copy are local to the devices of its shard. In a loop over chunks nothing is gathered and
    gradients are summed locally; the sum over devices, that of the copies, is taken once.

    Args:
      matrix: the parameter.
      axes: its logical axes.
      rows: batch rows; one copy is returned if the mesh does not split them evenly.
    """
    if not splits_evenly(rows):
        return matrix[None]
    mesh = jax.sharding.get_abstract_mesh()
    copies = jnp.broadcast_to(matrix[None], (batch_parts(rows), *matrix.shape))
    spec = partition_spec(matrix.shape, axes, mesh, RULES | {"embed": None})
    return jax.lax.with_sharding_constraint(copies, P(*BATCH_SPEC, *spec))


def sum_over_experts(
    fn: Callable[[Any, Any, Any], jax.Array], rows: tuple[jax.Array, ...], experts: tuple[jax.Array, ...]
) -> jax.Array:
    """Return Σ fn(first, rows, experts) over the parts that the mesh splits experts into.

    Each device calls `fn` with its own rows and experts; `first` is the number of the first of these experts.

    Args:
      fn: sum over experts of what each gives for the rows, `[B, …]`.
      rows: arrays whose leading axis is batch rows.
      experts: parameters whose leading axis is experts; gathered over `fsdp`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return fn(0, rows, experts)
    row_spec = BATCH_SPEC if splits_evenly(len(rows[0])) else P()
    expert_spec = partition_spec(experts[0].shape[:1], ("experts",), mesh)
    (axis,) = expert_spec

    def fn_of_device(rows, experts):
        if axis is None:
            return fn(0, rows, experts)
        return jax.lax.psum(fn(jax.lax.axis_index(axis) * len(experts[0]), rows, experts), axis)

    specs = {"in_specs": (row_spec, expert_spec), "out_specs": row_spec}
    return jax.shard_map(fn_of_device, **specs, check_vma=False)(rows, experts)


# --------------------------------------------------------------------------------------------- batches and activations


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of batches: leading axis over ("data", "fsdp")."""
    return NamedSharding(mesh, BATCH_SPEC)


def count_batch_shards(mesh: Mesh | AbstractMesh) -> int:
    """Return the number of shards that a mesh splits batch rows into."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def splits_evenly(rows: int) -> bool:
    """Return whether the mesh of `jax.set_mesh` splits this many rows into equal shards; False without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and rows % count_batch_shards(mesh) == 0


def batch_parts(rows: int) -> int:
    """Return the number of shards of the mesh of `jax.set_mesh` if it splits this many rows into equal ones, else 1."""
    return count_batch_shards(jax.sharding.get_abstract_mesh()) if splits_evenly(rows) else 1


def pad_to_multiple(rows: int, mesh: Mesh) -> int:
    """Return the smallest number of rows ≥ `rows` that the mesh splits into equal shards."""
    return -(-rows // count_batch_shards(mesh)) * count_batch_shards(mesh)


def constrain_batch(x_b: jax.Array) -> jax.Array:
    """Constrain activations to be split by rows. Left alone, XLA splits their width as the parameters', losing FSDP.

    Acts under `jax.set_mesh(mesh)` on rows that the mesh divides; returns `x_b` unchanged elsewhere.
    """
    return jax.lax.with_sharding_constraint(x_b, BATCH_SPEC) if splits_evenly(x_b.shape[0]) else x_b


def kv_cache_spec(kv_heads: int, mesh: Mesh | AbstractMesh) -> P:
    """Return the spec of keys and values `[L, B, M, S, H]`: rows as in batches, heads as in their projections."""
    return P(None, *BATCH_SPEC, *partition_spec((kv_heads,), ("kv_heads",), mesh))


def constrain_kv_cache(kv_lbmsh: jax.Array) -> jax.Array:
    """Constrain keys or values to `kv_cache_spec`, under the same conditions as `constrain_batch`."""
    _, rows, kv_heads, _, _ = kv_lbmsh.shape
    if not splits_evenly(rows):
        return kv_lbmsh
    return jax.lax.with_sharding_constraint(kv_lbmsh, kv_cache_spec(kv_heads, jax.sharding.get_abstract_mesh()))


# ---------------------------------------------------------------------------------------------- host arrays and meshes


def local_row_indices(mesh: Mesh, rows: int) -> list[int]:
    """Return which of `rows` batch rows this process holds. Processes that `tensor` spans hold the same ones."""
    local_slices = [
        index[0] for index in batch_sharding(mesh).addressable_devices_indices_map((rows,)).values() if index
    ]
    return sorted({row for rows_slice in local_slices for row in range(rows)[rows_slice]})


def to_mesh(tree: Any, mesh: Mesh) -> Any:
    """Put host arrays on the mesh as global batch arrays.

    Args:
      tree: arrays with this process's rows, those of `local_row_indices`.
      mesh: mesh to put them on.
    """
    rows_sharding = batch_sharding(mesh)
    if rows_sharding.is_fully_addressable:
        return jax.device_put(tree, rows_sharding)
    shards = count_batch_shards(mesh)
    local_shards = local_row_indices(mesh, shards)

    def put_leaf(x):
        shard_rows = len(x) // len(local_shards)
        rows = shard_rows * shards

        def read_shard(index):
            first = local_shards.index(range(rows)[index[0]].start // shard_rows) * shard_rows
            return x[first : first + shard_rows]

        return jax.make_array_from_callback((rows, *x.shape[1:]), rows_sharding, read_shard)

    return jax.tree.map(put_leaf, tree)


def local_rows(tree: Any, mesh: Mesh) -> Any:
    """Return this process's rows of host arrays that hold all rows, as `to_mesh` takes them."""
    if batch_sharding(mesh).is_fully_addressable:
        return tree
    return jax.tree.map(lambda x: x[local_row_indices(mesh, len(x))], tree)


def replicate(tree: Any) -> Any:
    """Return arrays that every process can read completely. Dispatches without waiting for them.

    With one process the arrays are returned as they are.
    """
    return jax.tree.map(lambda x: x if _is_readable(x) else _make_replicate(x.sharding.mesh)(x), tree)


def to_host(tree: Any) -> Any:
    """Return complete host arrays on every process; all processes must call this with the same arrays."""
    return jax.device_get(replicate(tree))


def _is_readable(x: Any) -> bool:
    return not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated


@functools.cache
def _make_replicate(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda x: x, out_shardings=replicated_sharding(mesh))

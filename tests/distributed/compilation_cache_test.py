"""Where compiled programs are kept."""

import jax
import pytest

from mig_jax.distributed import compilation_cache


@pytest.fixture
def updates(monkeypatch):
    """Record what is set in jax's config, and set nothing."""
    made = {}
    monkeypatch.setattr(jax.config, "update", made.__setitem__)
    return made


def test_programs_are_kept_in_a_folder_of_the_cpu(updates, tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compilation_cache.enable()
    folder = tmp_path / "mig_jax" / "compilation" / compilation_cache._cpu_kind()
    assert updates["jax_compilation_cache_dir"] == str(folder) and folder.is_dir()
    assert updates["jax_compilation_cache_max_size"] == 4 * 1024**3
    assert updates["jax_persistent_cache_min_compile_time_secs"] == 0
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "5")
    updates.clear()
    compilation_cache.enable()
    assert "jax_compilation_cache_dir" in updates and "jax_persistent_cache_min_compile_time_secs" not in updates


def test_the_environment_decides(updates, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for chosen in ("", str(tmp_path / "own")):
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", chosen)
        compilation_cache.enable()
    assert not updates and not list(tmp_path.iterdir())


def test_no_writable_home_is_no_error(updates, tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    compilation_cache.enable()
    assert not updates

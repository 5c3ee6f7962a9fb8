"""Downloads from the Hugging Face hub, with failures in one line."""

from collections.abc import Sequence

from mig_jax.errors import UserError

# The same parameters once more, in Mistral's own format.
_IGNORED = ["consolidated*"]


def download(name: str, *, patterns: Sequence[str]) -> str:
    """Download files of a model, or find them in the cache, and return their folder.

    Args:
      name: on the hub, such as Qwen/Qwen2.5-0.5B-Instruct.
      patterns: of the names of the files.

    Raises:
      UserError: the hub does not provide it; the message is the reason.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return snapshot_download(name, allow_patterns=list(patterns), ignore_patterns=_IGNORED)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(_reason(error)) from error


def _reason(error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "access to it must be granted on its page; then log in with `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such model on the hub, or a private one; check the spelling"
    if isinstance(error, errors.HFValidationError):
        return "not a name on the hub, which is OWNER/NAME"
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return "the hub cannot be reached, and it is not in the cache"
    return " ".join(str(error).split())[:200]

"""Upload of a network to the Hugging Face hub, for timm to load from there."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rtl_jax.convert.timm_folder import write_timm_folder
from rtl_jax.errors import UserError
from rtl_jax.models.network import Network

_FOLDER = ".timm"


def push(
    network: Network,
    repository: str,
    image_size: int,
    *,
    license: str | None = None,
    rows: Path | None = None,
    private: bool = False,
    report: Callable[[str], Any] = print,
) -> str:
    """Upload the folder of `write_timm_folder` to OWNER/NAME; return the address of the commit.

    The repository is created if it does not exist. `timm.create_model("hf-hub:OWNER/NAME",
    pretrained=True)` then loads it.

    Raises UserError for a malformed name, and for what `write_timm_folder` or the hub refuses.
    """
    parts = repository.split("/")
    if len(parts) != 2 or not all(parts):
        raise UserError(f"hf:{repository}: expected hf:OWNER/NAME, a repository to write to")
    import huggingface_hub

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / parts[1]
        known: dict[str, Any] = {"license": license, "rows": rows, "repository": repository}
        write_timm_folder(network, folder, image_size, report=report, **known)
        report(f"uploading to https://huggingface.co/{repository}")
        try:
            api = huggingface_hub.HfApi(library_name="rtl_jax")
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message="Add a network of rtl_jax"
            )
        # The hub's client raises its HTTP library's errors, whichever library that is.
        except Exception as error:
            raise UserError(f"hf:{repository}: {_advice(error)}") from error
    report(f'load it by timm.create_model("hf-hub:{repository}", pretrained=True)')
    return str(getattr(commit, "commit_url", commit))


def _advice(error: Exception) -> str:
    """Explain why the upload failed, and what to do about it."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.HFValidationError):
        return "is not a repository name"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set: unset it"
    if isinstance(error, errors.LocalTokenNotFoundError) or status in (401, 403, 404):
        said = "" if status is None else f" (HTTP {status})"
        return (
            f"the hub refuses to write there without a token with write access{said}: "
            "log in (hf auth login), or give one in HF_TOKEN, and check the owner's name"
        )
    if status == 429:
        return "the hub limits the rate of requests (HTTP 429): wait some minutes"
    if status is not None and status >= 500:
        return f"the hub has an internal error (HTTP {status}): try again later"
    if status is not None:
        reason = (str(error).splitlines() or [""])[0][:300]
        return f"the hub answers HTTP {status}: {reason}"
    return (
        f"the Hugging Face hub cannot be reached ({type(error).__name__}): write an OUT{_FOLDER} "
        "and upload that folder by other means"
    )

"""Upload of a folder that ``export --format hub`` wrote to the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, get_token
from huggingface_hub.errors import HfHubHTTPError

from scribbleseg.errors import ConfigError, ModelError, StorageError
from scribbleseg.export.card import PLACEHOLDER
from scribbleseg.export.hub import CARD, FILES
from scribbleseg.models.folder import load_model

#: What the Hub's answers mean for the one who uploads.
_ANSWERS = {
    401: ("a token that the Hub accepts", "log in again with `hf auth login`; the token must be allowed to write"),
    403: ("the right to write there", "use a token that may write, and a user or organisation that is yours"),
    404: ("a repository that can be seen with this token", "check the name, and that the token may write"),
    429: ("fewer uploads in an hour", "wait, then run the same again"),
}


def push(folder: Path | str, name: str, *, private: bool = False, endpoint: str | None = None, token: str | None = None) -> str:
    """Upload a folder as a model repository in one commit, and return its address.

    Only the files that ``export --format hub`` writes are uploaded; in the card the repository's name takes the place of
    ``USER/NAME``. A repository that exists gets a further commit, and stays as public or private as it is.

    Args:
        folder: that was exported.
        name: ``user/name`` or ``organisation/name``.
        private: a new repository is seen by you alone.
        endpoint: of another Hub; if None, what the library was told (``HF_ENDPOINT``).
        token: if None, the one of ``hf auth login`` or ``HF_TOKEN``.

    Raises:
        ConfigError: no such name, no token, or one without the right to write.
        ModelError: not such a folder, or not whole.
        StorageError: the Hub cannot be reached or refuses the files.
    """
    folder = Path(folder)
    card = _read_card(folder)
    load_model(folder)
    _require_name(name)
    if token is None and get_token() is None:
        do = "log in with `hf auth login`, or set HF_TOKEN (https://huggingface.co/settings/tokens)"
        raise ConfigError("push", "a token of the Hub", "none", do)
    api = HfApi(endpoint=endpoint, token=token, library_name="scribbleseg")
    contents: dict[str, Any] = {file: folder / file for file in FILES if (folder / file).is_file()}
    contents[CARD] = card.replace(PLACEHOLDER, name).encode()
    operations = [CommitOperationAdd(path_in_repo=file, path_or_fileobj=content) for file, content in contents.items()]
    try:
        address = api.create_repo(name, private=private or None, exist_ok=True)
        api.create_commit(name, operations=operations, commit_message="Upload a model of scribbleseg")
    except HfHubHTTPError as error:
        raise _refused(error, name) from None
    except Exception as error:  # what carries the bytes has types of its own, and so has a card that is refused
        refused = isinstance(error, ValueError)
        expected = "files that the Hub accepts" if refused else f"the Hub at {api.endpoint}"
        do = "mend README.md, then push again" if refused else "check the connection, then run the same again"
        raise StorageError(f"push {name}", expected, _line(error), do) from None
    return str(address)


def _read_card(folder: Path) -> str:
    """Return the text of the folder's card."""
    path = folder / CARD
    try:
        text = path.read_text(encoding="utf-8")
        library = ModelCard(text, ignore_metadata_errors=False).data.get("library_name")
    except Exception as error:  # YAML has errors of its own
        got = "no such file" if not path.is_file() else _line(error)
        raise ModelError(path, "a model card", got, "write the folder with `scribbleseg export --format hub`") from None
    if library != "scribbleseg":
        got = f"library_name: {library}"
        raise ModelError(
            path, "the card of a scribbleseg model", got, "write the folder with `scribbleseg export --format hub`"
        )
    return text


def _require_name(name: str) -> None:
    """Check a name by the Hub's rules: two parts of letters, digits, ``-``, ``_`` and ``.``, of at most 96 characters."""
    part = r"(?!.*(--|\.\.))[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?"
    if name == PLACEHOLDER or name.endswith(".git") or not re.fullmatch(f"{part}/{part}", name, re.ASCII):
        raise ConfigError("push", "user/name of a repository", f"'{name}'", "as in: scribbleseg push FOLDER me/leaves")


def _refused(error: HfHubHTTPError, name: str) -> ConfigError | StorageError:
    """Return our message for an answer of the Hub."""
    status = error.response.status_code
    got = f"{status}: {error.server_message or _line(error)}"
    if status in _ANSWERS:
        expected, do = _ANSWERS[status]
        return ConfigError(f"push {name}", expected, got, do)
    return StorageError(f"push {name}", "files that the Hub accepts", got, "run the same again, or upload the folder by hand")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__

"""Reachability of the Hugging Face hub, tried once: its client retries a minute per file."""

import logging
from functools import lru_cache

__all__ = ["TIMEOUT", "hub_answers"]

log = logging.getLogger(__name__)

TIMEOUT = 5.0
"""Seconds to wait for an answer."""
_PROBE = "gpt2"


@lru_cache
def hub_answers() -> bool:
    """Return whether the hub can be reached.

    If not, the hub's client is put into its offline mode for the rest of the process, so that it
    reads its cache at once instead of trying the network for each file.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().model_info(_PROBE, timeout=TIMEOUT)
    except HfHubHTTPError:  # any answer shows that the hub can be reached
        return True
    except Exception as error:  # the type of the error depends on the client's version
        log.info("The hub does not answer: %r", error)
        constants.HF_HUB_OFFLINE = True
        return False
    return True

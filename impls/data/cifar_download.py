"""Downloads CIFAR-10's archive through torchvision, in a process of its own: `-m impls.data.cifar_download FOLDER`.

Only this module imports torchvision (which imports torch), and only once the server has answered, so that nobody who
works offline waits for either. Progress goes to stderr; when it fails, the reason is the last line of stdout.
"""

from __future__ import annotations

import socket
import sys
from urllib.request import urlopen

from impls.data.cifar import RELEASE

# Of any single wait for the server; without it a lost connection hangs for ever.
SOCKET_TIMEOUT_S = 15


def main(folder: str) -> int:
    """Fetch the archive into `folder` and check its MD5; 0 when it is there."""
    socket.setdefaulttimeout(SOCKET_TIMEOUT_S)
    try:
        urlopen(RELEASE.url, timeout=SOCKET_TIMEOUT_S).close()
    except OSError as error:
        print(f"the server does not answer: {getattr(error, 'reason', error)}")
        return 1

    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_url

    try:
        download_url(CIFAR10.url, folder, CIFAR10.filename, CIFAR10.tgz_md5)
    except (OSError, RuntimeError) as error:
        print(f"the download broke off: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""The region's network: a namespace per task, database and cache node, real addresses, security groups enforced.

As root on Linux with `ip` and `nft` it is `Namespaces`; elsewhere it is `Loopback`, where all parts share this
machine's loopback addresses and nothing is enforced. `open_network` chooses. See
docs/decisions/network-of-the-region.md.
"""

from alva.region.network.interface import Interface
from alva.region.network.loopback import Loopback
from alva.region.network.mode import Network, open_network
from alva.region.network.namespace import Namespace, NetworkFailed
from alva.region.network.namespaces import Namespaces

__all__ = ["Interface", "Loopback", "Namespace", "Namespaces", "Network", "NetworkFailed", "open_network"]

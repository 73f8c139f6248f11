"""Networks and hosts that several appliances share through Consul."""

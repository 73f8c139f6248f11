"""The VRS of the lab: a stock Open vSwitch with the Nuage tables, and a controller that plays the VSC."""

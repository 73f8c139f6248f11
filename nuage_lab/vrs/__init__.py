"""The lab's VRS: stock Open vSwitch with the Nuage tables, and a controller that plays the VSC."""

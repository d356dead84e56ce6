"""The version of this package: setup.cfg, the .deb and what bakes images read it here.

A constant, since a package that was copied into an image may have no metadata beside it.
"""

VERSION = "0.1.0"

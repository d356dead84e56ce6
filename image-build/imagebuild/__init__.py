"""Building golden images with the module baked in; `lab` boots and tries them.

Standard library only: it runs on a fresh Debian host before anything else is
installed there.  Each module does one thing; the commands beside this package
(`build`, `install-into`, `demo`) put them together, and so do the boot tests.
"""

"""Build golden images that contain the module; `lab` boots and tests them.

Standard library only, so that it runs on a fresh Debian host before anything else
is installed.  Each module does one thing; the commands beside this package
(`build`, `install-into`, `demo`) and the boot tests combine them.
"""

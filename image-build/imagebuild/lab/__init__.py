"""Booting images and trying them, with two or more NICs, in a data centre of network namespaces.

`network` is the data centre, `config_drive` what its cloud tells a server, `guest` what
can be asked of one, booted as a container (`nspawn`) or a virtual machine (`qemu`).
Nothing that builds an image imports from here.
"""

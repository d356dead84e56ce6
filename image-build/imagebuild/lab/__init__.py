"""Boot and test images with two or more NICs in a data centre of network namespaces.

`network` is the data centre, `config_drive` the cloud's data for a server, `guest` the
interface to a server, which boots as a container (`nspawn`) or a virtual machine
(`qemu`).  Modules that build images import nothing from here.
"""

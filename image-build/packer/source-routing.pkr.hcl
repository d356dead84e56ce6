# Bakes source-routing into a Debian cloud image: with QEMU on this machine, or on
# an OpenStack cloud in a server that is snapshot.  Both are thin wrappers over
# image-build/install-into, and end with image-build/verify.
#
#   packer build -only=qemu.image image-build/packer
#   packer build -only=openstack.image -var flavor=m1.small -var network=NET image-build/packer

variable "checkout" {
  type        = string
  default     = "."
  description = "The checkout of the project; packer is run in it."
}

variable "source_image" {
  type        = string
  default     = "debian-13-generic-amd64.qcow2"
  description = "The cloud image to start from: a file for QEMU, a name for OpenStack."
}

variable "source_checksum" {
  type        = string
  default     = "none"
  description = "Its checksum (QEMU), as in sha512:..."
}

variable "seed" {
  type        = string
  default     = "seed"
  description = "A directory with meta-data and user-data; ssh_authorized_keys is all it needs (QEMU)."
}

variable "private_key" {
  type        = string
  default     = ""
  description = "The file of the key that the seed lets in (QEMU)."
}

variable "flavor" {
  type    = string
  default = "m1.small"
}

variable "network" {
  type        = string
  default     = ""
  description = "The id of a network through which packages can be had (OpenStack)."
}

variable "default_stanza" {
  type        = string
  default     = ""
  description = "\"true\": on for all servers of the image."
}

locals {
  remote  = "/var/tmp/source-routing"
  options = var.default_stanza == "" ? "" : "--default-stanza ${var.default_stanza}"
}

source "qemu" "image" {
  iso_url          = var.source_image
  iso_checksum     = var.source_checksum
  disk_image       = true
  disk_interface   = "virtio"
  net_device       = "virtio-net"
  format           = "qcow2"
  disk_compression = true
  headless         = true
  output_directory = "packer-output"
  vm_name          = "source-routing.qcow2"
  ssh_username     = "debian"
  ssh_timeout      = "20m"
  shutdown_command = "sudo shutdown -P now"
  # The cloud image lets in whom a NoCloud seed names.
  ssh_private_key_file = var.private_key
  cd_files             = ["${var.seed}/meta-data", "${var.seed}/user-data"]
  cd_label             = "cidata"
}

source "openstack" "image" {
  image_name        = "source-routing"
  source_image_name = var.source_image
  flavor            = var.flavor
  networks          = [var.network]
  ssh_username      = "debian"
  config_drive      = true
}

build {
  sources = ["source.qemu.image", "source.openstack.image"]

  provisioner "shell" {
    inline = ["cloud-init status --wait || test $? = 2", "mkdir -p ${local.remote}"]
  }

  provisioner "file" {
    sources = [
      "${var.checkout}/cc_source_routing",
      "${var.checkout}/templates",
      "${var.checkout}/image-build",
      "${var.checkout}/setup.cfg",
    ]
    destination = "${local.remote}/"
  }

  provisioner "shell" {
    execute_command = "sudo env {{ .Vars }} sh -eu '{{ .Path }}'"
    inline = [
      "apt-get -q update",
      "apt-get -q -y --no-install-recommends install python3-pyroute2 python3-jinja2 python3-jsonschema python3-yaml",
      "python3 -B ${local.remote}/image-build/install-into / ${local.options}",
      "rm -rf ${local.remote} /home/debian/.ssh/authorized_keys /root/.ssh/authorized_keys",
      "rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /etc/ssh/ssh_host_*",
      "cloud-init clean --logs --seed",
      "truncate --size=0 /etc/machine-id",
      # It would save the seed of this machine's random numbers at shutdown.
      "systemctl stop systemd-random-seed.service",
      "rm -f /var/lib/systemd/random-seed",
    ]
  }

  post-processor "shell-local" {
    only   = ["qemu.image"]
    inline = ["sudo ${var.checkout}/image-build/verify packer-output/source-routing.qcow2"]
  }
}

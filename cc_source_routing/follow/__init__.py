"""From events to applies: one process that follows the kernel while something happens."""

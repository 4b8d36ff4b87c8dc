"""Built-in executors: plugins like any other, listed by string in `scriptrules.plugins.manager`."""

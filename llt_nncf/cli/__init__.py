"""The command ``llt-nncf``: one module a subcommand, each imported only when it is called."""

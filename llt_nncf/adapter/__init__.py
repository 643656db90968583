"""
The algorithm as a plugin of NNCF 2.19: registry, config schema, builder, controller, scheduler, freezing.

The only importer of nncf. Import ``llt_nncf.register`` instead of this package: it makes sure that NNCF traces in the
way that ``create_compressed_model`` needs.
"""

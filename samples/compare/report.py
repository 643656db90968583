def write_report(c,o): return []

"""The finals of a sweep: fresh seeds, mixtures, comparison in pairs, the sealed look at test people, the report."""

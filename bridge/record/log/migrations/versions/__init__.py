"""The revisions, each a step from one version of the tables to the next."""

"""The case study, arithmetic on the published numbers, and the audit."""

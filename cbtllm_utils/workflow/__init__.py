"""Run notebooks: profiles, the graph, what is out of date, provenance, report, release."""

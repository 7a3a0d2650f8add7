"""What all studies share: what defines a study, its statistics, the files it writes."""

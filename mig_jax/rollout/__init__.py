"""Problems to completions to a batch to train on."""

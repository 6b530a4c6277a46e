"""Looking at runs from outside: what there is, how they differ, whether they would go on. No file is changed."""

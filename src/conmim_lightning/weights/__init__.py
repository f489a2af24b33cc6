"""Reading and writing of weights in the formats of other projects."""

"""Generated tasks, whose haystacks grow to any length: the paper's sandbox (section 4)."""

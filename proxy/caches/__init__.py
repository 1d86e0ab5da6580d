"""Where answers are kept, and how calls that ask the same share one."""

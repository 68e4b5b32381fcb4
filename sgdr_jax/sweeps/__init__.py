"""Many runs of one question: arms, searches, workers."""

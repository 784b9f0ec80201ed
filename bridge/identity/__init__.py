"""Who is calling, and which v2 credential answers for them."""

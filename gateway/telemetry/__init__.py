"""What is measured and logged; everything else only hands it records."""

"""Fitting a budget: of many student shapes the one that fits a device, found by measuring and by halving."""

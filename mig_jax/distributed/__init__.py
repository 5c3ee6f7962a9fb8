"""Several hosts and devices: process coordination, and which device holds what. The ground floor."""

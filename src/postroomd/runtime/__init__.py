"""The processes of Postroom: service, gateway and worker, and what starts and supervises them."""

"""The service that customers see: pages rendered here, data from api and auth."""

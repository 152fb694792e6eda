"""Reports: what a converted network does on data, as one page, as JSON, as spikes."""

"""Methods side by side on one data set: trained, deployed, judged on the same images, and shown on one page."""

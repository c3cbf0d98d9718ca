"""What a reply or a post says: components, distortions, screens, checks."""

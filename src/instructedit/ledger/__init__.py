"""The record of edits: a folder that keeps every edit ever made to one model, and can take each one back."""

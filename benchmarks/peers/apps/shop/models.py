"""The model whose saves are told."""

from django.db import models


class Contact(models.Model):
    name = models.CharField(max_length=100)
    email = models.CharField(max_length=100)
    city = models.TextField()
